insert into refold.parked_events (version, partition, at_offset, key, reason, payload)
select $1, $2, e.at_offset, e.key, e.reason, e.payload
from unnest($3::bigint[], $4::bytea[], $5::text[], $6::bytea[]) as e (at_offset, key, reason, payload)
on conflict do nothing
