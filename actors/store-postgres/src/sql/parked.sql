select partition, at_offset, key, reason, payload
from refold.parked_events
where version = $1 and ($2::integer is null or partition = $2)
order by partition, at_offset
limit $3
