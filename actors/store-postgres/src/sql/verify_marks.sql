-- The first statement of a snapshot: where both versions stand in it, and whether
-- the snapshot is younger than both leaves.
select o.version, o.next_offset, o.sums,
    o.has_leaf and o.leaf_xid is not null
        and pg_visible_in_snapshot(o.leaf_xid, pg_current_snapshot()) as readable
from refold.offsets o
where (o.version = $1 or o.version = $2) and o.partition = $3
