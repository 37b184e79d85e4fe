-- The candidate, and the version that serves, whose row of refold.active the caller has
-- locked. In the order of ids, like everybody who locks versions: retiring, failing and
-- dropping lock the same rows, so that none of them can run beside a switch.
select v.id, v.name, v.state, v.label
from refold.versions v
where v.id = $1 or v.id = (
    select a.version from refold.active a
    where a.name = (select c.name from refold.versions c where c.id = $1))
order by v.id
for update
