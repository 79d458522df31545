/* muse: text to image, under a C program's own front end. Made by cbindgen: do not edit.
 *
 * Every function that can fail returns a muse_status; muse_last_error() says in words what was wrong.
 * Every struct begins with its size: set it to sizeof of the struct, so that programs and libraries of
 * different versions understand each other. Text is UTF-8 that ends in a NUL byte. What a function hands
 * out it says how to free. A muse_engine and a muse_cancel may be used by several threads at once; a
 * muse_images by several that only read it. Neither jump out of a callback nor let a C++ exception leave it.
 */

#ifndef MUSE_H
#define MUSE_H

#include <stddef.h>
#include <stdint.h>

// Version of this interface: it changes when a program must be compiled anew.
#define MUSE_ABI_VERSION 1

// muse_request.size_of_image: as large as the model makes it.
#define MUSE_SIZE_FULL 0

// muse_request.size_of_image: the base stage alone, without super-res.
#define MUSE_SIZE_BASE 1

// muse_request.size_of_image: width and height (aMUSEd).
#define MUSE_SIZE_PIXELS 2

// muse_request.rng: muse's own noise.
#define MUSE_RNG_COUNTER 0

// muse_request.rng: PyTorch's on the processor, for diffusers' tokens (aMUSEd).
#define MUSE_RNG_TORCH 1

// muse_request.guidance_schedule: the model's.
#define MUSE_SCHEDULE_MODEL 0

// muse_request.guidance_schedule: the same scale at every step.
#define MUSE_SCHEDULE_CONSTANT 1

// muse_request.guidance_schedule: it rises.
#define MUSE_SCHEDULE_LINEAR 2

// muse_request.guidance_schedule: only between the parts guidance_from and guidance_to of the loop.
#define MUSE_SCHEDULE_INTERVAL 3

// muse_request.order: the model's.
#define MUSE_ORDER_MODEL 0

// muse_request.order: the most confident tokens are kept.
#define MUSE_ORDER_CONFIDENCE 1

// muse_request.order: those that spread evenly over the grid.
#define MUSE_ORDER_HALTON 2

// muse_request.order: random ones.
#define MUSE_ORDER_RANDOM 3

// muse_request.change: nothing, a new image.
#define MUSE_CHANGE_NONE 0

// muse_request.change: repaints the pixels of the mask. Of strength 1, but for aMUSEd.
#define MUSE_CHANGE_INPAINT 1

// muse_request.change: paints beyond the image's edges, by left, right, top and bottom.
#define MUSE_CHANGE_OUTPAINT 2

// muse_request.change: image to image and variations. Forgets a part of the tokens, by strength. Without a prompt to
// lead towards set guidance to 1.
#define MUSE_CHANGE_REPAINT 3

// muse_request.change: mask-free editing (Muse, section 3.3.2), by iterations, fraction and preserve.
#define MUSE_CHANGE_RESAMPLE 4

// muse_request.fit: the largest part of the model's proportions, from the middle.
#define MUSE_FIT_CROP 0

// muse_request.fit: all of the image, stretched.
#define MUSE_FIT_STRETCH 1

// Cancels requests from another thread.
typedef struct muse_cancel muse_cancel;

// A loaded model. Any number of threads may use it, and are served in the order in which they came.
typedef struct muse_engine muse_engine;

// Pictures, and what they point to, until muse_images_free.
typedef struct muse_images muse_images;

// What a call returns: MUSE_OK, or one of the codes below. All but MUSE_PANIC are also the exit codes of the
// program `muse`. More may be added.
typedef int32_t muse_status;

// How an engine is set up; zero or NULL is what is usual.
typedef struct muse_engine_options {
  // sizeof(muse_engine_options).
  size_t size;
  // "cpu" (the default), "cuda", "cuda:N", or "auto", the first GPU or else the processor.
  const char *device;
  // "bf16" (the default); on the processor also "f32" or "int8".
  const char *dtype;
  // Threads on the processor, 0 for all cores. Images do not depend on it.
  size_t threads;
} muse_engine_options;

// What an engine is. Set its size before it is filled; the engine owns the texts.
typedef struct muse_engine_info {
  // sizeof(muse_engine_info).
  size_t size;
  // What the model is called.
  const char *name;
  // The device, in words.
  const char *device;
  // "bf16", "f32" or "int8".
  const char *dtype;
  // Calls that wait for their turn, at this moment.
  size_t waiting;
} muse_engine_info;

// A decode step. Fields are added at its end; a program that knows more of them than the library must look at the
// size.
typedef struct muse_step {
  // Its size in this library.
  size_t size;
  // "base" or "superres".
  const char *stage;
  // Step, from 0.
  uint32_t step;
  // Steps of this stage.
  uint32_t steps;
  // Window that is being decoded, from 0; only outpainting has several.
  uint32_t window;
  // Windows of this stage.
  uint32_t windows;
  // Image of those that are decoded side by side, from 0: each step is seen once for every image.
  uint32_t image;
  // Images that are decoded side by side.
  uint32_t images;
  // Rows of the token grid: of the whole image.
  uint32_t rows;
  // Columns of it.
  uint32_t columns;
  // rows x columns token ids, row by row from the top.
  const uint32_t *tokens;
  // The id of a token that is still masked.
  uint32_t mask_token;
  // How many tokens still are.
  uint32_t masked;
  // Time this step took, in nanoseconds.
  uint64_t nanoseconds;
  // The library's own, for muse_preview.
  const void *origin;
  // What the draws of this step were compared by, row by row; NaN where none was drawn.
  const float *confidence;
} muse_step;

// Called after every step, on the thread that called muse_generate; other than 0 cancels. What it is given lasts
// until it returns. It may use the engine, and other requests of the engine wait for it.
typedef int32_t (*muse_on_step)(const struct muse_step *step, void *user);

// What to generate or to edit. muse_request_init fills it; then set what differs. Texts, pictures, callback and
// cancel stay the caller's, and must stay as they are until muse_generate returns. A number that is NAN, where this
// is said of it, is the model's own.
typedef struct muse_request {
  // sizeof(muse_request).
  size_t size;
  // What the image shows. An edit may do without.
  const char *prompt;
  // What guidance leads away from, or NULL.
  const char *negative;
  // A second prompt, or NULL.
  const char *toward;
  // How far towards it, 0 to 1.
  float toward_part;
  // How many images, of this seed and those that follow it.
  uint32_t count;
  // Seed of all noise: the same seed gives the same image.
  uint64_t seed;
  // MUSE_SIZE_*
  uint32_t size_of_image;
  // With MUSE_SIZE_PIXELS.
  uint32_t width;
  // With MUSE_SIZE_PIXELS.
  uint32_t height;
  // MUSE_RNG_*
  uint32_t rng;
  // What aMUSEd is told of the picture: pixels cut off at its left; NAN.
  float crop_left;
  // The same at its top; NAN where crop_left is.
  float crop_top;
  // What aMUSEd is told of the picture: its aesthetic score; NAN.
  float aesthetic;
  // Decode steps of the base stage; 0 for the model's.
  uint32_t steps;
  // Decode steps of the super-res stage; 0 for the model's.
  uint32_t superres_steps;
  // Guidance scale of the base stage, as those that follow; NAN.
  float guidance;
  // MUSE_SCHEDULE_*
  uint32_t guidance_schedule;
  // With MUSE_SCHEDULE_INTERVAL, a part of the loop, 0 to 1.
  float guidance_from;
  // With MUSE_SCHEDULE_INTERVAL, a part of the loop, 0 to 1.
  float guidance_to;
  // MUSE_ORDER_*
  uint32_t order;
  // Temperature of the confidence noise; NAN.
  float temperature;
  // That of the last step; NAN.
  float last_temperature;
  // Temperature of the token distribution, 0 for the most likely one; NAN.
  float token_temperature;
  // Tokens are drawn from so many of the most likely ones; 0 for all, less for the model's.
  int32_t top_k;
  // MUSE_CHANGE_*
  uint32_t change;
  // The image to change, rows of RGB bytes from the top, without gaps.
  const uint8_t *image;
  // Its columns.
  uint32_t image_width;
  // Its rows.
  uint32_t image_height;
  // A byte for every pixel of the image; those other than 0 are repainted (MUSE_CHANGE_INPAINT).
  const uint8_t *mask;
  // MUSE_FIT_*
  uint32_t fit;
  // Pixels over which the new fades into the old.
  uint32_t feather;
  // Other than 0: the picture as decoded, without the original's pixels.
  uint32_t decoded;
  // The part of the steps that run, 0 to 1.
  float strength;
  // Pixels to add at the left (MUSE_CHANGE_OUTPAINT).
  uint32_t left;
  // At the right.
  uint32_t right;
  // Above.
  uint32_t top;
  // Below.
  uint32_t bottom;
  // Tokens of the coarse grid that a window shares with what is known; 0 for half of the grid.
  uint32_t overlap;
  // Rounds of MUSE_CHANGE_RESAMPLE.
  uint32_t iterations;
  // Part of the tokens that a round draws anew.
  float fraction;
  // How much less often tokens are drawn anew that the prompt explains well.
  float preserve;
  // Called after every step of every image, or NULL.
  muse_on_step on_step;
  // Given to on_step.
  void *user;
  // What cancels the request from another thread, or NULL.
  const struct muse_cancel *cancel;
} muse_request;

// A picture of a muse_images, which owns all that is pointed to. Set its size before it is filled.
typedef struct muse_image {
  // sizeof(muse_image).
  size_t size;
  // Columns.
  uint32_t width;
  // Rows.
  uint32_t height;
  // 3 x width x height bytes: RGB, row by row from the top, without gaps.
  const uint8_t *rgb;
  // Its seed.
  uint64_t seed;
  // The base grid's tokens, row by row; none of a preview or a file.
  const uint32_t *base_tokens;
  // How many.
  size_t base_count;
  // The super-res grid's tokens, where that stage ran.
  const uint32_t *superres_tokens;
  // How many.
  size_t superres_count;
  // What to know of it besides, as that a text was cut off; or NULL.
  const char *notes;
} muse_image;

// It is done.
#define MUSE_OK 0

// An argument, an option or a field of a request cannot be used: NULL, text that is not UTF-8, a wrong size too.
#define MUSE_OPTION 2

// The model cannot be used.
#define MUSE_MODEL 3

// A file could not be read.
#define MUSE_IO 4

// The device is absent or failed.
#define MUSE_DEVICE 5

// A bug of the library; the engine goes on.
#define MUSE_PANIC 101

// The callback returned other than 0, or muse_cancel_now was called.
#define MUSE_CANCELLED 130

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// MUSE_ABI_VERSION of the library that is loaded; it must be that of the header.
uint32_t muse_abi_version(void);

// Version of the library, as "0.1.0". Never to be freed.
const char *muse_version(void);

// Loads the model directory path. options may be NULL. Free the engine with muse_engine_free; on failure it is NULL.
//
// Every pointer is NULL or good.
muse_status muse_engine_load(const char *path,
                             const struct muse_engine_options *options,
                             struct muse_engine **engine);

// Frees an engine; NULL is nothing. No other call may be using it. Images that it made remain.
//
// engine is NULL or good, and is not used afterwards.
void muse_engine_free(struct muse_engine *engine);

// Fills info.
//
// engine is NULL or good; info is NULL or as large as it says.
muse_status muse_engine_describe(const struct muse_engine *engine, struct muse_engine_info *info);

// Makes the images of a request, generated or edited, when its turn has come. Free them with muse_images_free; on
// failure they are NULL.
//
// Every pointer is NULL or good.
muse_status muse_generate(const struct muse_engine *engine,
                          const struct muse_request *request,
                          struct muse_images **images);

// The picture of a step's grid, masked cells hatched, while its callback runs; on any thread. Free it with
// muse_images_free.
//
// Every pointer is NULL or good, and step that of a callback which has not returned.
muse_status muse_preview(const struct muse_engine *engine,
                         const struct muse_step *step,
                         struct muse_images **images);

// A new one, for one request or several. Free it with muse_cancel_free.
struct muse_cancel *muse_cancel_new(void);

// Cancels the requests that have it, those to come too: those that wait at once, one that runs after its step. On any
// thread; not in a signal handler.
//
// cancel is NULL or good.
muse_status muse_cancel_now(const struct muse_cancel *cancel);

// Frees it; NULL is nothing. Requests that have it go on.
//
// cancel is NULL or good, and is not used afterwards.
void muse_cancel_free(struct muse_cancel *cancel);

// How many pictures there are; 0 of NULL.
//
// images is NULL or good.
size_t muse_images_count(const struct muse_images *images);

// Fills image with picture number index, from 0.
//
// images is NULL or good; image is NULL or as large as it says.
muse_status muse_images_get(const struct muse_images *images,
                            size_t index,
                            struct muse_image *image);

// Picture number index as the bytes of a PNG file, which images owns. Of a result it holds prompt, seed, settings
// and model in its text chunks; engine is the one that made it.
//
// Every pointer is NULL or good.
muse_status muse_images_png(const struct muse_engine *engine,
                            const struct muse_images *images,
                            size_t index,
                            const uint8_t **bytes,
                            size_t *length);

// Reads a PNG, JPEG or WebP file, turned upright and laid over white, for an edit. Free it with muse_images_free.
//
// Every pointer is NULL or good.
muse_status muse_images_open(const char *path,
                             struct muse_images **images);

// Frees pictures and all that was got of them; NULL is nothing.
//
// images is NULL or good, and is not used afterwards.
void muse_images_free(struct muse_images *images);

// Fills a request with what is usual: one image, seed 0, the model's own settings, no edit.
//
// size is sizeof(muse_request).
//
// request is NULL or points to that many bytes.
muse_status muse_request_init(struct muse_request *request, size_t size);

// Code of the last call of this thread that failed; MUSE_OK where none has.
muse_status muse_last_status(void);

// What the last call of this thread that failed found wrong, and what to do; empty where none has. It lasts until
// the next call of this thread that fails, and is not to be freed.
const char *muse_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MUSE_H */

/* docs/embedding.md has more on threads, memory and versions. */
