use std::ffi::{CStr, c_void};
use std::io::Write;
use std::ptr::without_provenance_mut;

use crate::abi::*;
use crate::toy::TEXT;

#[test]
fn functions_and_variables_of_a_module() {
    let gpu = gpu();
    let module = load(TEXT).unwrap();
    let mut f = 0;
    let mut get = |name: &CStr| {
        // SAFETY: a string, and room for the handle.
        (unsafe { cuModuleGetFunction(&mut f, module, name.as_ptr()) }, f)
    };
    let (code, first) = get(c"mixed");
    assert_eq!(code, OK);
    assert_eq!(get(c"mixed"), (OK, first));
    assert_eq!(get(c"absent").0, NOT_FOUND);
    let (mut offset, mut bytes) = (0, 0);
    assert_eq!(cuFuncGetParamInfo(first, 0, &mut offset, Some(&mut bytes)), OK);
    assert_eq!((offset, bytes), (0, 4));
    assert_eq!(cuFuncGetParamInfo(first, 1, &mut offset, None), OK);
    assert_eq!(offset, 8);
    assert_eq!(cuFuncGetParamInfo(first, 2, &mut offset, None), INVALID_VALUE);
    let (mut address, mut size) = (0, 0);
    // SAFETY: a string, and room for the results.
    unsafe {
        assert_eq!(cuModuleGetGlobal_v2(&mut address, &mut size, module, c"table".as_ptr()), OK);
        assert_eq!(
            cuModuleGetGlobal_v2(&mut address, &mut size, module, c"chair".as_ptr()),
            NOT_FOUND
        );
    }
    assert_eq!(gpu.read(address, size), [5; 16]);
    assert_eq!(cuMemFree_v2(address), INVALID_VALUE, "not the program's");
    assert_eq!(cuModuleUnload(module), OK);
    assert_eq!(cuModuleUnload(module), INVALID_HANDLE);
    assert_eq!(launch(first, 0, &[0, 0]), INVALID_HANDLE);
    assert_eq!(dtoh(&mut [0; 4], address), INVALID_VALUE);
}

#[test]
fn images_are_checked_before_they_are_read() {
    let _gpu = gpu_with(|o| o.driver_version = 12040);
    assert_eq!(load(c".version 8.4\n.target sm_90\n").map(|_| ()), Ok(()));
    assert_eq!(load(c"// comment\n.version 8.5\n.target sm_90\n"), Err(PTX_TOO_NEW));
    assert_eq!(load(c".version 8.0\n.target sm_100\n"), Err(INVALID_PTX));
    assert_eq!(load(c".version 8.0\n.target sm_90a\n").map(|_| ()), Ok(()));
    assert_eq!(load(c".version 8.0\n.target sm_80a\n"), Err(INVALID_PTX));
    assert_eq!(load(c"hello"), Err(INVALID_PTX));
    assert_eq!(load(c"\x7fELF\x02"), Err(NO_BINARY));
    assert_eq!(load(c"\x50\xed\x55\xba\x01"), Err(NO_BINARY));
    // SAFETY: null is refused.
    assert_eq!(unsafe { cuModuleLoadData(&mut 0, std::ptr::null()) }, INVALID_VALUE);
}

#[test]
fn the_jit_log_says_what_is_wrong() {
    let _gpu = gpu();
    let mut log = [1_u8; 200];
    let options = [5, 6, 3, 4, 12];
    let mut values: [*mut c_void; 5] = [
        log.as_mut_ptr().cast(),
        without_provenance_mut(log.len()),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        without_provenance_mut(1),
    ];
    let text = c".version 8.0\n.target sm_80\n nonsense;\n";
    let mut load = |text: &CStr, options: &[u32]| {
        let mut module = 0;
        // SAFETY: options and values as declared, the log with its length.
        unsafe {
            cuModuleLoadDataEx(
                &mut module,
                text.as_ptr(),
                options.len() as u32,
                options.as_ptr(),
                values.as_mut_ptr(),
            )
        }
    };
    assert_eq!(load(text, &options), INVALID_PTX);
    assert_eq!(load(TEXT, &[99]), INVALID_VALUE);
    let log = CStr::from_bytes_until_nul(&log).unwrap().to_str().unwrap();
    assert!(log.contains("line 3: unknown instruction nonsense"), "{log}");
    assert_eq!(values[1] as usize, log.len() + 1);
    assert_eq!(values[3] as usize, 0);
}

#[test]
fn modules_come_from_files() {
    let _gpu = gpu();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(TEXT.to_bytes()).unwrap();
    let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
    let mut module = 0;
    // SAFETY: strings, and room for the handle.
    unsafe {
        assert_eq!(cuModuleLoad(&mut module, path.as_ptr()), OK);
        assert_eq!(cuModuleLoad(&mut module, c"/nowhere".as_ptr()), 301);
    }
}

#[test]
fn attributes_of_functions() {
    let _gpu = gpu();
    let (shared, hungry) = (function(c"shared"), function(c"hungry"));
    let get = |attribute, function| {
        let mut value = 0;
        (cuFuncGetAttribute(&mut value, attribute, function), value)
    };
    assert_eq!(get(1, shared), (OK, 16 << 10));
    assert_eq!(get(8, shared), (OK, 32 << 10));
    assert_eq!(get(4, hungry), (OK, 128));
    assert_eq!(get(0, hungry), (OK, 512));
    assert_eq!(get(5, hungry), (OK, 80));
    assert_eq!(get(6, hungry), (OK, 90));
    assert_eq!(get(99, hungry).0, INVALID_VALUE);
    assert_eq!(get(0, 4711).0, INVALID_HANDLE);
    assert_eq!(cuFuncSetAttribute(shared, 8, 211 << 10), OK);
    assert_eq!(get(8, shared), (OK, 211 << 10));
    assert_eq!(cuFuncSetAttribute(shared, 8, (211 << 10) + 1), INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(shared, 8, -1), INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(shared, 9, 100), OK);
    assert_eq!(cuFuncSetAttribute(shared, 9, 101), INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(shared, 1, 0), INVALID_VALUE);
    assert_eq!(cuFuncSetAttribute(shared, 11, 2), NOT_SUPPORTED);
}
