insert into refold.verifications
    (id, version_from, version_to, columns, partitions, differences)
values ($1, $2, $3, $4, $5, $6)
