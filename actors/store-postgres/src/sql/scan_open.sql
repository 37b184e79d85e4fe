insert into refold.verifications
    (id, version_from, version_to, columns, partitions, differences, code_from, code_to, rule)
values ($1, $2, $3, $4, '[]'::jsonb, 0, $5, $6, $7)
