INSERT INTO t VALUES (1, REPEAT('a', 1000));
--! session zip
SET binlog_transaction_compression = ON;
INSERT INTO t VALUES (2, REPEAT('b', 10000)), (3, 'c');
BEGIN;
UPDATE t SET v = REPEAT('z', 50000) WHERE id = 2;
DELETE FROM t WHERE id = 3;
COMMIT;
--! session main
INSERT INTO t VALUES (4, 'plain');
--! stop
--! session zip
INSERT INTO t SELECT id + 10, REPEAT(v, 10) FROM t;
