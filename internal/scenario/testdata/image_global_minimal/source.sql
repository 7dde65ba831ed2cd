--! session fresh
INSERT INTO t (id, a) VALUES (1, 'one'), (2, 'two');
UPDATE t SET b = 5 WHERE id = 1;
DELETE FROM t WHERE id = 2;
INSERT INTO t (id) VALUES (3), (4);
UPDATE t SET id = id + 10, a = 'x' WHERE id > 2 ORDER BY id DESC;
