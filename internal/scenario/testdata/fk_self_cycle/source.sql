INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2), (4, 4), (5, NULL), (6, 5);
UPDATE t SET up = 3 WHERE id = 1;
UPDATE t SET up = 6 WHERE id = 5;
DELETE FROM t WHERE id = 1;
DELETE FROM t WHERE id = 4;
--! sync
DELETE FROM t WHERE id = 6;
INSERT INTO t VALUES (1, 1), (2, 1), (3, 1), (4, NULL);
DELETE FROM t WHERE id IN (1, 4);
INSERT INTO t VALUES (1, NULL), (2, 1);
