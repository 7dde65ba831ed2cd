--! session fresh
INSERT INTO t VALUES (1, 'one', 'text'), (2, 'two', NULL);
UPDATE t SET a = 'uno' WHERE id = 1;
UPDATE t SET b = 'B' WHERE id = 2;
UPDATE t SET id = 7 WHERE id = 1;
DELETE FROM t WHERE id = 2;
