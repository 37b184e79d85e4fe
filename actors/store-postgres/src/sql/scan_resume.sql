select s.version_from, s.version_to, s.code_from, s.code_to, s.rule,
    s.finished_at is not null as finished,
    exists (
        select 1 from refold.versions v
        where v.id in (s.version_from, s.version_to) and v.reset_at >= s.started_at) as was_reset
from refold.verifications s
where s.id = $1
