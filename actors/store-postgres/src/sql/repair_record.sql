select refold.repair_record($1, $2, $3, $4, $5, $6, $7)
