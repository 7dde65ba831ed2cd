INSERT INTO t VALUES (1, 'a"b\\c', 0, '2024-01-01 00:00:00.6'), (2, '''', 0, NULL);
UPDATE t SET a = CONCAT(a, '\\"');
INSERT INTO t VALUES (3, 'pad', 0, '2024-06-01');
