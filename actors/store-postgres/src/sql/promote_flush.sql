-- Writes a little: a transaction that has written nothing does not wait for the disk.
select pg_logical_emit_message(true, 'refold', 'flush') is not null as written
