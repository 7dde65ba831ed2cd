INSERT INTO t VALUES (1, UNHEX('835C'), UNHEX('835C'), UNHEX('A5BD'), UNHEX('A5BD'), UNHEX('BF5C'), UNHEX('B0A1'), UNHEX('A55C'), UNHEX('B0A1'), UNHEX('A1A2'));
INSERT INTO t VALUES (2, UNHEX('B1'), UNHEX('FA54'), UNHEX('8EB1'), UNHEX('8FA2EB'), UNHEX('815C'), UNHEX('F7FE'), UNHEX('F9D5'), UNHEX('C8FE'), UNHEX('FB'));
INSERT INTO t VALUES (3, 'a''\\', 'a''\\', 'a''\\', 'a''\\', 'a''\\', 'a''\\', 'a''\\', 'a''\\', 'a''\\');
UPDATE t SET a = CONCAT(a, a), e = CONCAT(e, '''') WHERE id = 1;
INSERT INTO k VALUES (UNHEX('BF5C'), 1), (UNHEX('815C'), 2);
UPDATE k SET v = v + 1 WHERE k = UNHEX('815C');
DELETE FROM k WHERE v = 1;
