CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a', 'B', ''), f ENUM('1', 'ä', 'x,y', "'")) CHARACTER SET utf8mb4;
CREATE TABLE k (k ENUM('one', 'two', 'three') PRIMARY KEY, v INT);
CREATE TABLE none (k ENUM('one', 'two', 'three'));
