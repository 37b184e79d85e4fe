-- The last position that was handed out, null before the first one. Every position up to it was
-- taken by a transaction that held its lock on the table before and holds it until its end.
select log.low, log.partitions, pg_sequence_last_value($3::oid) as last
from refold_events.logs log
where log.name = $1 and log.id = $2
