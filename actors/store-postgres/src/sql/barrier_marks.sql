-- A statement of its own: its snapshot is younger than the locks.
select o.version, o.partition, o.next_offset
from refold.offsets o
where o.version = $1 or o.version = $2
