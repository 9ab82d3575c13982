"""Writes the files; see services.monitoring."""

from services.monitoring.files import make_files

if __name__ == "__main__":
    for path, text in make_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
