select v.id, v.name, v.label, v.state, v.code_hash, v.cluster_id, v.topic, v.topic_id, v.partitions,
    v.note, v.created_at
from refold.versions v
where $1::text is null or v.label = $1
order by v.id
