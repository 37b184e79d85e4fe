-- Serialises the switches of one name.
select a.version, a.generation
from refold.active a
where a.name = (select v.name from refold.versions v where v.id = $1)
for update of a
