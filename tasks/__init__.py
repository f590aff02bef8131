"""One Prefect task a file: a plain function over one tool, and at the bottom its thin ``@task``."""
