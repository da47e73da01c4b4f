"""What the tests of the queue look at, and the commit of a step that changes nothing."""

from sqlalchemy import func, select

from kernel.db import Database, Transaction
from kernel.jobs import Job, Jobs
from kernel.tables import jobs as jobs_table


def nothing(tx: Transaction) -> None:
    pass


def how_many(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(jobs_table)).scalar_one()


def only(database: Database, jobs: Jobs) -> Job:
    with database.read() as connection:
        (job,) = jobs.listing(connection)
    return job
