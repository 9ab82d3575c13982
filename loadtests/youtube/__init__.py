"""YouTube's Data api on loopback: a real HTTP server that validates, charges and refuses calls as the real one does.

It keeps the truth that tests judge by: the calls that it got, and the units that it charged for each quota day.
"""
