INSERT INTO t VALUES (1, 1);
--! sync
--! stop
UPDATE t SET v = v + 1;
--! sync
UPDATE t SET v = v + 1;
--! stop
BEGIN;
UPDATE t SET v = v + 1;
INSERT INTO t VALUES (2, 2);
COMMIT;
