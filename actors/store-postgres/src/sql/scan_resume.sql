select s.version_from, s.version_to, s.code_from, s.code_to, s.rule,
    s.finished_at is not null as finished
from refold.verifications s
where s.id = $1
