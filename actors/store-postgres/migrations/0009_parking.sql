-- Events that a projector puts aside instead of halting in front of them, in the transaction
-- that moves its mark past them.

-- The record's key, which names the aggregate when the value cannot be read; empty for none.
alter table refold.parked_events
    alter column key type bytea using convert_to(coalesce(key, ''), 'UTF8'),
    alter column key set not null;
