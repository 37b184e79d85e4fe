-- The versions that a read may have to be answered from, the active one first.
select v.id, v.name, v.key_type, v.columns, v.partitions, v.state = 'active' as active
from refold.versions v
where v.state in ('ready', 'active', 'previous')
order by v.name, v.state = 'active' desc, v.id
