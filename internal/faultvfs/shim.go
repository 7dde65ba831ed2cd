package faultvfs

import (
	"sync"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// A file of SQLite's as we hand it out: its first field is what SQLite looks at, and
// behind it lies the system's own file.
type file struct {
	methods uintptr // *sqlite3.Tsqlite3_io_methods
	id      uintptr // in names
}

const fileSize = unsafe.Sizeof(file{})

// What SQLite's functions are in Go. A function pointer of the translated C is the
// address of a funcval, as in the source of modernc.org/sqlite/vfs.
type (
	openFunc   = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	fileFunc   = func(tls *libc.TLS, file uintptr) int32
	intFunc    = func(tls *libc.TLS, file uintptr, n int32) int32
	longFunc   = func(tls *libc.TLS, file uintptr, n int64) int32
	outFunc    = func(tls *libc.TLS, file, out uintptr) int32
	dataFunc   = func(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32
	controlFn  = func(tls *libc.TLS, file uintptr, op int32, arg uintptr) int32
	shmMapFunc = func(tls *libc.TLS, file uintptr, page, size, extend int32, out uintptr) int32
	shmLockFn  = func(tls *libc.TLS, file uintptr, offset, n, flags int32) int32
	voidFunc   = func(tls *libc.TLS, file uintptr)
)

// pointer returns the address as a pointer: it is of memory that is not Go's.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// address returns the function pointer of fn, which is a function of this package:
// those lie in memory that does not move.
func address[F any](fn F) uintptr { return *(*uintptr)(unsafe.Pointer(&fn)) }

// function is the way back.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

var shim struct {
	once    sync.Once
	tls     *libc.TLS
	under   uintptr // the system's own VFS
	vfs     uintptr // ours
	methods uintptr

	mu    sync.Mutex
	names map[uintptr]string // of open files
	last  uintptr
}

// build makes the tables of functions, once: SQLite may keep pointers to them.
func build() {
	tls := libc.NewTLS()
	if rc := sqlite3.Xsqlite3_initialize(tls); rc != 0 {
		panic("faultvfs: SQLite does not start")
	}
	shim.tls, shim.names = tls, make(map[uintptr]string)
	shim.under = sqlite3.Xsqlite3_vfs_find(tls, 0)

	shim.methods = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	*(*sqlite3.Tsqlite3_io_methods)(pointer(shim.methods)) = sqlite3.Tsqlite3_io_methods{
		FiVersion: 2, // 3 would let SQLite map files into memory, past us
		FxClose:   address(fileFunc(xClose)), FxRead: address(dataFunc(xRead)), FxWrite: address(dataFunc(xWrite)),
		FxTruncate: address(longFunc(xTruncate)), FxSync: address(intFunc(xSync)), FxFileSize: address(outFunc(xFileSize)),
		FxLock: address(intFunc(xLock)), FxUnlock: address(intFunc(xUnlock)),
		FxCheckReservedLock: address(outFunc(xCheckReservedLock)), FxFileControl: address(controlFn(xFileControl)),
		FxSectorSize: address(fileFunc(xSectorSize)), FxDeviceCharacteristics: address(fileFunc(xDeviceCharacteristics)),
		FxShmMap: address(shmMapFunc(xShmMap)), FxShmLock: address(shmLockFn(xShmLock)),
		FxShmBarrier: address(voidFunc(xShmBarrier)), FxShmUnmap: address(intFunc(xShmUnmap)),
	}
	name, err := libc.CString("dfs-fault")
	if err != nil {
		panic(err)
	}
	shim.vfs = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	v := (*sqlite3.Tsqlite3_vfs)(pointer(shim.vfs))
	*v = *under() // what does not concern a file is the system's
	v.FszOsFile += int32(fileSize)
	v.FpNext, v.FzName = 0, name
	v.FxOpen, v.FxDelete = address(openFunc(xOpen)), address(deleteFunc(xDelete))
}

func register(t testing.TB) {
	shim.once.Do(build)
	if rc := sqlite3.Xsqlite3_vfs_register(shim.tls, shim.vfs, 1); rc != 0 {
		t.Fatalf("faultvfs: register: %d", rc)
	}
}

// unregister gives the system's VFS back its place. Databases that are still open go
// on with ours, which then lets all pass.
func unregister(t testing.TB) {
	if rc := sqlite3.Xsqlite3_vfs_register(shim.tls, shim.under, 1); rc != 0 {
		t.Fatalf("faultvfs: unregister: %d", rc)
	}
}

func under() *sqlite3.Tsqlite3_vfs { return (*sqlite3.Tsqlite3_vfs)(pointer(shim.under)) }

// real returns the system's file behind ours, and its functions.
func real(f uintptr) (uintptr, *sqlite3.Tsqlite3_io_methods) {
	f += fileSize
	return f, (*sqlite3.Tsqlite3_io_methods)(pointer((*sqlite3.Tsqlite3_file)(pointer(f)).FpMethods))
}

func nameOf(f uintptr) string {
	shim.mu.Lock()
	defer shim.mu.Unlock()
	return shim.names[(*file)(pointer(f)).id]
}

// ask says how an access to the file is to end.
func ask(f uintptr, a Access) (name string, rc int32) {
	a.Path = nameOf(f)
	return a.Path, int32(installed.Load().before(a))
}

func note(rc int32, e event) int32 {
	if rc == 0 {
		installed.Load().after(e)
	}
	return rc
}

func xOpen(tls *libc.TLS, _, name, f uintptr, flags int32, outFlags uintptr) int32 {
	h := (*file)(pointer(f))
	h.methods = 0 // nothing is to be closed if this fails
	path := ""    // a temporary file
	if name != 0 {
		path = libc.GoString(name)
	}
	if rc := installed.Load().before(Access{Op: Open, Path: path}); rc != OK {
		return int32(rc)
	}
	rc := function[openFunc](under().FxOpen)(tls, shim.under, name, f+fileSize, flags, outFlags)
	if rc != 0 {
		return rc
	}
	shim.mu.Lock()
	shim.last++
	h.id = shim.last
	shim.names[h.id] = path
	shim.mu.Unlock()
	h.methods = shim.methods
	return note(0, event{kind: Open, path: path})
}

func xDelete(tls *libc.TLS, _, name uintptr, syncDir int32) int32 {
	path := libc.GoString(name)
	if rc := installed.Load().before(Access{Op: Delete, Path: path}); rc != OK {
		return int32(rc)
	}
	return note(function[deleteFunc](under().FxDelete)(tls, shim.under, name, syncDir), event{kind: Delete, path: path})
}

func xClose(tls *libc.TLS, f uintptr) int32 {
	shim.mu.Lock()
	delete(shim.names, (*file)(pointer(f)).id)
	shim.mu.Unlock()
	r, m := real(f)
	return function[fileFunc](m.FxClose)(tls, r)
}

func xRead(tls *libc.TLS, f, data uintptr, n int32, offset int64) int32 {
	if _, rc := ask(f, Access{Op: Read, Offset: offset, Len: int(n)}); rc != 0 {
		return rc
	}
	r, m := real(f)
	return function[dataFunc](m.FxRead)(tls, r, data, n, offset)
}

func xWrite(tls *libc.TLS, f, data uintptr, n int32, offset int64) int32 {
	r, m := real(f)
	var size int64
	sized := function[outFunc](m.FxFileSize)(tls, r, uintptr(unsafe.Pointer(&size)))
	path, rc := ask(f, Access{Op: Write, Offset: offset, Len: int(n), grows: sized != 0 || offset+int64(n) > size})
	b := unsafe.Slice((*byte)(pointer(data)), int(n))
	write := function[dataFunc](m.FxWrite)
	switch {
	case rc == int32(failures[Write]):
		// What a disk with a fault leaves: a part of it.
		if half := n / 2; write(tls, r, data, half, offset) == 0 {
			note(0, event{kind: Write, path: path, offset: offset, data: b[:half]})
		}
		return rc
	case rc != 0:
		return rc
	}
	return note(write(tls, r, data, n, offset), event{kind: Write, path: path, offset: offset, data: b})
}

func xTruncate(tls *libc.TLS, f uintptr, size int64) int32 {
	path, rc := ask(f, Access{Op: Truncate, Offset: size})
	if rc != 0 {
		return rc
	}
	r, m := real(f)
	return note(function[longFunc](m.FxTruncate)(tls, r, size), event{kind: Truncate, path: path, offset: size})
}

func xSync(tls *libc.TLS, f uintptr, flags int32) int32 {
	path, rc := ask(f, Access{Op: Sync})
	if rc != 0 {
		if Code(rc) != Full { // see Files
			installed.Load().after(event{kind: Sync, path: path, bad: true})
		}
		return rc
	}
	r, m := real(f)
	return note(function[intFunc](m.FxSync)(tls, r, flags), event{kind: Sync, path: path})
}

func xFileSize(tls *libc.TLS, f, out uintptr) int32 {
	if _, rc := ask(f, Access{Op: Size}); rc != 0 {
		return rc
	}
	r, m := real(f)
	return function[outFunc](m.FxFileSize)(tls, r, out)
}

func xShmMap(tls *libc.TLS, f uintptr, page, size, extend int32, out uintptr) int32 {
	if _, rc := ask(f, Access{Op: ShmMap, Offset: int64(page)}); rc != 0 {
		return rc
	}
	r, m := real(f)
	return function[shmMapFunc](m.FxShmMap)(tls, r, page, size, extend, out)
}

// The rest goes to the system's file as it is.

func xLock(tls *libc.TLS, f uintptr, lock int32) int32 {
	r, m := real(f)
	return function[intFunc](m.FxLock)(tls, r, lock)
}

func xUnlock(tls *libc.TLS, f uintptr, lock int32) int32 {
	r, m := real(f)
	return function[intFunc](m.FxUnlock)(tls, r, lock)
}

func xCheckReservedLock(tls *libc.TLS, f, out uintptr) int32 {
	r, m := real(f)
	return function[outFunc](m.FxCheckReservedLock)(tls, r, out)
}

func xFileControl(tls *libc.TLS, f uintptr, op int32, arg uintptr) int32 {
	r, m := real(f)
	return function[controlFn](m.FxFileControl)(tls, r, op, arg)
}

func xSectorSize(tls *libc.TLS, f uintptr) int32 {
	r, m := real(f)
	return function[fileFunc](m.FxSectorSize)(tls, r)
}

func xDeviceCharacteristics(tls *libc.TLS, f uintptr) int32 {
	r, m := real(f)
	return function[fileFunc](m.FxDeviceCharacteristics)(tls, r)
}

func xShmLock(tls *libc.TLS, f uintptr, offset, n, flags int32) int32 {
	r, m := real(f)
	return function[shmLockFn](m.FxShmLock)(tls, r, offset, n, flags)
}

func xShmBarrier(tls *libc.TLS, f uintptr) {
	r, m := real(f)
	function[voidFunc](m.FxShmBarrier)(tls, r)
}

func xShmUnmap(tls *libc.TLS, f uintptr, del int32) int32 {
	r, m := real(f)
	return function[intFunc](m.FxShmUnmap)(tls, r, del)
}
