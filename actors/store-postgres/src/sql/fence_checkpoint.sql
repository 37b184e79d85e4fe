select refold.fence_checkpoint($1, $2, $3, $4, $5, $6, $7, $8, $9) as switch, pg_current_xact_id()::text as xid
