insert into refold.verifications
    (id, version_from, version_to, columns, code_from, code_to, rule)
values ($1, $2, $3, $4, $5, $6, $7)
