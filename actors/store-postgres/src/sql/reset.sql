select refold.reset_version($1, $2, $3, $4, $5, $6, $7) as tables
