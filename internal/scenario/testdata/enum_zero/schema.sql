CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a', 'b'));
CREATE TABLE k (k ENUM('a', 'b') PRIMARY KEY, v INT);
CREATE TABLE none (e ENUM('a', 'b'));
