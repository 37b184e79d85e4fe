insert into refold.versions
    (name, number, label, state, code_hash, key_type, columns, replaces,
     cluster_id, topic, topic_id, partitions)
values ($1, $2, $3, 'building', $4, $5, $6, $7, $8, $9, $10, $11)
on conflict do nothing
