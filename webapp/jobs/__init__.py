"""Jobs on files that users upload by a page: kept for a week, processed in a thread.

`uploads` stores the files and their progress; `runner` processes one, and resumes it after a stop.
"""
