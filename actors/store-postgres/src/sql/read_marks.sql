-- The marks of the versions that serve these projections.
select a.name, o.partition, o.next_offset
from refold.active a
join refold.offsets o on o.version = a.version
where a.name = any($1)
