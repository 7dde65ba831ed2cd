INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z');
UPDATE t SET a = 10 WHERE a = 1;
UPDATE t SET b = 'yy' WHERE a = 2;
DELETE FROM t WHERE a = 3;
