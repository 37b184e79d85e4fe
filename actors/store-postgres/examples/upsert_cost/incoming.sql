insert into account as leaf
select * from incoming order by key
