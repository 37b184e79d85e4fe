update refold.barriers b set state = 'dropped', changed_at = clock_timestamp()
from refold.versions v
where b.state = 'waiting' and v.name = $1 and (b.version_from = v.id or b.version_to = v.id)
