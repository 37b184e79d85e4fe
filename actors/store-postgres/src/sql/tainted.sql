select key, min(at_offset) as since
from refold.parked_events
where version = $1 and partition = $2 and key <> ''
group by key
