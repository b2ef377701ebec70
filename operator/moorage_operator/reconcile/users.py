"""Whether a cluster has users, by what auth servers say. Pure.

First they cease to put new users on it (`plan.build_settings`), all of them; what is counted after that holds. So
nobody is made on a cluster in the moment that it goes. What is not known is refused.
"""

from collections.abc import Sequence

from moorage_operator.reconcile.servers import UsersReport
from moorage_operator.reconcile.verdicts import ASK_SECONDS, POLL_SECONDS, Verdict, why_unknown


def judge_users(server_key: str, reports: Sequence[UsersReport | None], closed_for: float | None) -> Verdict:
    """`reports` are of every auth server that there is, all of them of the newest settings; `closed_for`: for how many
    seconds it has been known that none of them puts new users on the cluster, None when it has not.
    """
    unknown = why_unknown("auth", reports)
    if unknown is not None:
        why = f"whether it has users could not be asked ({unknown}), which is tried again by itself"
        return Verdict(why, closed=False, again=ASK_SECONDS)
    known = [report for report in reports if report is not None]
    if any(server_key in report.placing for report in known):
        why = "auth servers still put new users on it, until they have taken up the new list"
        return Verdict(why, closed=False, again=ASK_SECONDS)
    fresh = [
        (report.age, report.users)
        for report in known
        if report.users is not None and closed_for is not None and report.age < closed_for
    ]
    if not fresh:
        return Verdict("its users are being counted", closed=True, again=ASK_SECONDS)
    _, users = min(fresh, key=lambda one: one[0])
    number = users.get(server_key, 0)
    if not number:
        return Verdict(None, closed=True, again=None)
    live = "1 user lives" if number == 1 else f"{number} users live"
    why = f"{live} on it (`GET /auth/users` lists all users with their `server_key`; once those are deleted it goes by itself)"
    return Verdict(why, closed=True, again=POLL_SECONDS)
