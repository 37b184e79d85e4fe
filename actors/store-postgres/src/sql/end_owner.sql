select refold.end_owner($1, $2, $3)
