"""The four paths, one file each: read rows, do pure work, return one commit.

``service.application`` gives each step the name under which its jobs wait.
"""
