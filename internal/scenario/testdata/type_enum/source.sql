INSERT INTO t VALUES (1, 'a', 'ä'), (2, 'B', 'x,y'), (3, NULL, NULL), (4, '', "'"), (5, 'a', '1');
UPDATE t SET e = 'B' WHERE id = 1;
INSERT INTO k VALUES ('three', 3), ('one', 1), ('two', 2);
UPDATE k SET v = v + 10 WHERE k = 'one';
DELETE FROM k WHERE k = 'two';
INSERT INTO none VALUES ('two'), ('two'), (NULL), ('one');
DELETE FROM none WHERE k = 'two' LIMIT 1;
