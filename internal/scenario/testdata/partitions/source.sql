INSERT INTO h VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
UPDATE h SET id = id + 10 WHERE id < 3;
DELETE FROM h WHERE id = 3;
INSERT INTO r VALUES (1, '2023-06-01'), (2, '2024-06-01'), (3, '2025-06-01');
UPDATE r SET d = '2024-07-01' WHERE id = 1;
DELETE FROM r WHERE d = '2025-06-01';
INSERT INTO l VALUES (1, 1), (2, 2), (3, 3);
UPDATE l SET k = 3 WHERE id = 1;
