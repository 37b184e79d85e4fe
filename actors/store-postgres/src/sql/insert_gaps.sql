insert into refold.gaps (version, partition, at_offset, key, expected, found)
select $1, $2, g.at_offset, g.key, g.expected, g.found
from unnest($3::bigint[], $4::text[], $5::bigint[], $6::bigint[]) as g (at_offset, key, expected, found)
on conflict do nothing
