INSERT INTO t VALUES (1, 1), (2, 2);
UPDATE t SET v = v + 1;
DELETE FROM t WHERE id = 1;
CALL fill(5);
INSERT INTO t VALUES (next_id(), 0);
