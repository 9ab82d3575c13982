"""`make demo`: a real data set, replayed on a throw-away stack, and every count compared with the file.

dataset  →  rises  →  events  →  replay  ─┐
              └────→  oracle  ────────────┴→  check  →  report
"""
