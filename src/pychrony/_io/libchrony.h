/*
 * First layer (library.c): libchrony. These are its functions that the engine uses, and the numbers
 * of its interface that have names here. Where libchrony's own header is installed, the compiler
 * compares the two.
 */
#pragma once
#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "shim.h"

#if UINTPTR_MAX < UINT64_MAX
#error "pychrony needs a 64-bit system: elsewhere the width of libchrony's times is not known"
#endif

#if defined(__has_include)
#if __has_include(<chrony.h>)
#include <chrony.h>
#define HAVE_CHRONY_H
#endif
#endif

#ifndef HAVE_CHRONY_H
typedef struct chrony_session_t chrony_session;
typedef unsigned int chrony_err;
typedef unsigned int chrony_field_type;
typedef unsigned int chrony_field_content;
#endif

enum { OK = 0, NO_MEMORY = 1, SEND_FAILED = 5, RECV_FAILED = 6, UNAUTHORIZED = 9 };
enum { UNEXPECTED_STATUS = 11, INVALID_RESPONSE = 14 };
enum { UINTEGER = 1, INTEGER = 2, FLOAT = 3, TIMESPEC = 4, STRING = 5 };
enum { CONTENT_NONE = 0, CONTENT_ENUM = 12, CONTENT_FLAGS = 14, CONTENT_ADDRESS = 15 };

/* What we use of libchrony: result, name, arguments. */
#define LIBCHRONY(X)                                                        \
    X(int, open_socket, (const char *))                                     \
    X(void, close_socket, (int))                                            \
    X(const char *, get_error_string, (chrony_err))                         \
    X(chrony_err, init_session, (chrony_session **, int))                   \
    X(void, deinit_session, (chrony_session *))                             \
    X(bool, needs_response, (chrony_session *))                             \
    X(chrony_err, process_response, (chrony_session *))                     \
    X(int, get_number_supported_reports, (void))                            \
    X(const char *, get_report_name, (int))                                 \
    X(chrony_err, request_report_number_records, (chrony_session *, const char *)) \
    X(int, get_report_number_records, (chrony_session *))                   \
    X(chrony_err, request_record, (chrony_session *, const char *, int))    \
    X(int, get_record_number_fields, (chrony_session *))                    \
    X(const char *, get_field_name, (chrony_session *, int))                \
    X(chrony_field_type, get_field_type, (chrony_session *, int))           \
    X(chrony_field_content, get_field_content, (chrony_session *, int))     \
    X(uint64_t, get_field_uinteger, (chrony_session *, int))                \
    X(int64_t, get_field_integer, (chrony_session *, int))                  \
    X(double, get_field_float, (chrony_session *, int))                     \
    X(struct timespec, get_field_timespec, (chrony_session *, int))         \
    X(const char *, get_field_string, (chrony_session *, int))              \
    X(const char *, get_field_constant_name, (chrony_session *, int, uint64_t))

#ifdef HAVE_CHRONY_H
/* A declaration or a number that differs from the header does not compile. The numbers are those
   defined here and those that Python code uses. */
#define SAME_DECLARATION(result, name, arguments) result chrony_##name arguments;
#define SAME_NUMBER(name, number) _Static_assert(CHRONY_##name == (int)(number), "CHRONY_" #name);
LIBCHRONY(SAME_DECLARATION)
SAME_NUMBER(OK, OK) SAME_NUMBER(NO_MEMORY, NO_MEMORY) SAME_NUMBER(NO_RANDOM, 2)
SAME_NUMBER(RANDOM_FAILED, 4) SAME_NUMBER(SEND_FAILED, SEND_FAILED)
SAME_NUMBER(RECV_FAILED, RECV_FAILED) SAME_NUMBER(UNAUTHORIZED, UNAUTHORIZED)
SAME_NUMBER(DISABLED, 10) SAME_NUMBER(UNEXPECTED_STATUS, UNEXPECTED_STATUS)
SAME_NUMBER(OLD_SERVER, 12) SAME_NUMBER(NEW_SERVER, 13) SAME_NUMBER(INVALID_RESPONSE, INVALID_RESPONSE)
SAME_NUMBER(TYPE_NONE, 0) SAME_NUMBER(TYPE_UINTEGER, UINTEGER) SAME_NUMBER(TYPE_INTEGER, INTEGER)
SAME_NUMBER(TYPE_FLOAT, FLOAT) SAME_NUMBER(TYPE_TIMESPEC, TIMESPEC)
SAME_NUMBER(TYPE_STRING, STRING)
SAME_NUMBER(CONTENT_NONE, CONTENT_NONE) SAME_NUMBER(CONTENT_COUNT, 1) SAME_NUMBER(CONTENT_TIME, 2)
SAME_NUMBER(CONTENT_INTERVAL_LOG2_SECONDS, 3) SAME_NUMBER(CONTENT_INTERVAL_SECONDS, 4)
SAME_NUMBER(CONTENT_OFFSET_SECONDS, 5) SAME_NUMBER(CONTENT_MEASURE_SECONDS, 6)
SAME_NUMBER(CONTENT_OFFSET_PPM, 7) SAME_NUMBER(CONTENT_MEASURE_PPM, 8)
SAME_NUMBER(CONTENT_OFFSET_PPM_PER_SECOND, 9) SAME_NUMBER(CONTENT_RATIO, 10)
SAME_NUMBER(CONTENT_REFERENCE_ID, 11) SAME_NUMBER(CONTENT_ENUM, CONTENT_ENUM)
SAME_NUMBER(CONTENT_BITS, 13) SAME_NUMBER(CONTENT_FLAGS, CONTENT_FLAGS)
SAME_NUMBER(CONTENT_ADDRESS, CONTENT_ADDRESS) SAME_NUMBER(CONTENT_PORT, 16)
SAME_NUMBER(CONTENT_INDEX, 17) SAME_NUMBER(CONTENT_LENGTH_BITS, 18)
SAME_NUMBER(CONTENT_LENGTH_BYTES, 19) SAME_NUMBER(CONTENT_BOOLEAN, 20)
#endif

#define POINTER(result, name, arguments) result(*name) arguments;
struct libchrony {
    LIBCHRONY(POINTER)
};

/* Complete once shim_load() has succeeded, which comes before everything else. */
extern struct libchrony chrony;

/* libchrony formats all addresses in one buffer. Hold this lock while it writes to the buffer and
   until the text has been copied. Also, it protects what only grows: the functions and the shapes. */
void lock_library(void);
void unlock_library(void);
