-- Both ends of a barrier, locked against a change of state until it is set.
select v.id, v.name, v.label, v.state, v.cluster_id, v.topic, v.topic_id, v.partitions
from refold.versions v
where v.id = $1 or v.id = $2
order by v.id
for share
