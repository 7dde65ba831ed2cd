INSERT INTO t VALUES ('a'), ('a'), ('b');
UPDATE t SET v = 'c' WHERE v = 'b';
DELETE FROM t WHERE v = 'a' LIMIT 1;
