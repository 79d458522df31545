/* Walks every function of muse.h, as it is meant and as it is not, and prints the tokens of a request:
 *
 *   walk MODEL SIDE [any]
 *
 * SIDE is that of its images, in pixels: of the model's base images, or, with "any", of a model that makes any size.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muse.h"

#define LARGEST 64 /* pixels a side */

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
                    muse_last_error()); \
            exit(1); \
        } \
    } while (0)

#define DONE(call) CHECK((call) == MUSE_OK)

/* A call fails with this status, and its error names these words. */
#define FAILS(call, status, words) \
    do { \
        CHECK((call) == (status)); \
        CHECK(muse_last_status() == (status)); \
        CHECK(strstr(muse_last_error(), (words))); \
    } while (0)

static muse_engine *engine;
static uint32_t side;
static uint32_t size = MUSE_SIZE_BASE;

static muse_request request_of(const char *prompt) {
    muse_request request;
    memset(&request, 0xff, sizeof request);
    DONE(muse_request_init(&request, sizeof request));
    CHECK(request.size == sizeof request && request.count == 1 && isnan(request.guidance));
    request.prompt = prompt;
    request.size_of_image = size;
    request.width = request.height = side;
    if (size == MUSE_SIZE_PIXELS) request.guidance = 1; /* half the work */
    request.steps = 2;
    return request;
}

static muse_image image_of(const muse_images *images, size_t index) {
    muse_image image = {.size = sizeof image};
    DONE(muse_images_get(images, index, &image));
    return image;
}

/* What a callback has seen. */
struct seen {
    int steps;
    int cancel_at;
    int preview;
    muse_cancel *cancel;
};

static int32_t on_step(const muse_step *step, void *user) {
    struct seen *seen = user;
    CHECK(step->size == sizeof *step && strcmp(step->stage, "base") == 0);
    CHECK(step->window == 0 && step->windows == 1 && step->image < step->images);
    uint32_t masked = 0;
    for (uint32_t i = 0; i < step->rows * step->columns; i++)
        masked += step->tokens[i] == step->mask_token;
    CHECK(masked == step->masked && (masked == 0) == (step->step + 1 == step->steps));
    if (seen->preview) {
        muse_images *preview;
        DONE(muse_preview(engine, step, &preview));
        muse_image image = image_of(preview, 0);
        CHECK(image.width == side && image.height == side && !image.base_tokens && !image.notes);
        muse_images_free(preview);
        seen->preview = 0;
    }
    if (seen->cancel) muse_cancel_now(seen->cancel);
    return ++seen->steps == seen->cancel_at;
}

/* Of the request whose tokens are compared with those of the program `muse`. */
static void generates(void) {
    muse_request request = request_of("a frog above a banana");
    struct seen seen = {.preview = 1};
    request.seed = 5;
    request.count = 2;
    request.on_step = on_step;
    request.user = &seen;
    muse_images *images;
    DONE(muse_generate(engine, &request, &images));
    CHECK(muse_images_count(images) == 2 && seen.steps == 4);
    for (size_t index = 0; index < 2; index++) {
        muse_image image = image_of(images, index);
        CHECK(image.seed == 5 + index && image.width == side && image.height == side);
        CHECK(image.base_count > 0 && !image.superres_tokens && image.superres_count == 0);
        printf("seed %u:", (unsigned)image.seed);
        for (size_t i = 0; i < image.base_count; i++) printf(" %u", image.base_tokens[i]);
        printf("\n");
    }
    const uint8_t *png, *again;
    size_t length;
    DONE(muse_images_png(engine, images, 0, &png, &length));
    CHECK(length > 100 && memcmp(png, "\x89PNG", 4) == 0);
    DONE(muse_images_png(engine, images, 0, &again, &length));
    CHECK(png == again);

    muse_image image = {.size = sizeof image};
    FAILS(muse_images_get(images, 2, &image), MUSE_OPTION, "index: 2");
    image.size = 8;
    FAILS(muse_images_get(images, 0, &image), MUSE_OPTION, "image: a size of 8");
    FAILS(muse_images_get(NULL, 0, &image), MUSE_OPTION, "images: NULL");
    FAILS(muse_images_get(images, 0, NULL), MUSE_OPTION, "image: NULL");
    FAILS(muse_images_png(NULL, images, 0, &png, &length), MUSE_OPTION, "engine: NULL");
    CHECK(png == NULL && length == 0);
    FAILS(muse_images_png(engine, images, 0, NULL, &length), MUSE_OPTION, "bytes: NULL");
    FAILS(muse_images_png(engine, images, 0, &png, NULL), MUSE_OPTION, "length: NULL");
    muse_images_free(images);
}

/* Of an image of one colour. */
static muse_request edit_of(uint32_t change, const char *prompt) {
    static uint8_t rgb[3 * LARGEST * LARGEST];
    memset(rgb, 90, sizeof rgb);
    muse_request request = request_of(prompt);
    request.change = change;
    request.image = rgb;
    request.image_width = request.image_height = side;
    return request;
}

static void edits(void) {
    static uint8_t mask[LARGEST * LARGEST];
    size_t pixels = side * side;
    memset(mask, 1, pixels / 2);
    muse_request request = edit_of(MUSE_CHANGE_INPAINT, "a dog");
    request.mask = mask;
    request.feather = 0;
    muse_images *images;
    DONE(muse_generate(engine, &request, &images));
    muse_image image = image_of(images, 0);
    for (size_t i = 3 * pixels / 2; i < 3 * pixels; i++) CHECK(image.rgb[i] == 90);
    muse_images_free(images);
    if (size == MUSE_SIZE_BASE) { /* of a tiny model they would show nothing more */
        request = edit_of(MUSE_CHANGE_REPAINT, "");
        request.strength = 0.5f;
        request.guidance = 1;
        DONE(muse_generate(engine, &request, &images));
        muse_images_free(images);
        request = edit_of(MUSE_CHANGE_OUTPAINT, "a frog in the sea");
        request.right = 8;
        DONE(muse_generate(engine, &request, &images));
        image = image_of(images, 0);
        CHECK(image.width == side + 8 && image.height == side);
        muse_images_free(images);
        request = edit_of(MUSE_CHANGE_RESAMPLE, "a dog");
        request.iterations = 1;
        DONE(muse_generate(engine, &request, &images));
        muse_images_free(images);
    }

    request = edit_of(MUSE_CHANGE_INPAINT, "a dog");
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "mask: NULL");
    request = edit_of(MUSE_CHANGE_OUTPAINT, "a dog");
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "outpainting: no pixels to add");
    request = edit_of(MUSE_CHANGE_REPAINT, "a dog");
    request.image = NULL;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "image: NULL");
    request = edit_of(MUSE_CHANGE_REPAINT, "a dog");
    request.image_width = 0;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "image: 0");
    request = edit_of(MUSE_CHANGE_NONE, "a dog");
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "change: none of an image");
    request = edit_of(99, "a dog");
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "change: 99");
    CHECK(images == NULL);
}

static void refuses_requests(void) {
    muse_request request = request_of(NULL);
    muse_images *images;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "prompt: an empty text");
    CHECK(images == NULL);
    request = request_of("\xff\xfe");
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "prompt: the bytes");
    request = request_of("a dog");
    FAILS(muse_generate(engine, NULL, &images), MUSE_OPTION, "request: NULL");
    FAILS(muse_generate(NULL, &request, &images), MUSE_OPTION, "engine: NULL");
    FAILS(muse_generate(engine, &request, NULL), MUSE_OPTION, "images: NULL");
    request.size = 12;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "request: a size of 12");
    request = request_of("a dog");
    request.count = 0;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "count: 0");
    request = request_of("a dog");
    request.order = 77;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "order: 77");
    request = request_of("a dog");
    request.rng = 2;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "rng: 2");
    request = request_of("a dog");
    request.guidance = -3;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "guidance: -3");
    request = request_of("a dog");
    request.toward = "a cat";
    request.toward_part = 2;
    FAILS(muse_generate(engine, &request, &images), MUSE_OPTION, "part: 2");
    FAILS(muse_request_init(&request, 3), MUSE_OPTION, "request: a size of 3");
    FAILS(muse_request_init(NULL, sizeof request), MUSE_OPTION, "request: NULL");

    /* A newer program's struct is longer: what the library does not know must not be used. */
    struct {
        muse_request request;
        uint64_t newer;
    } longer;
    DONE(muse_request_init(&longer.request, sizeof longer));
    CHECK(longer.request.size == sizeof longer && longer.newer == 0);
    longer.request.count = 0; /* so far it goes */
    FAILS(muse_generate(engine, &longer.request, &images), MUSE_OPTION, "count: 0");
    longer.newer = 1;
    FAILS(muse_generate(engine, &longer.request, &images), MUSE_OPTION, "no more fields");
}

static void refuses_models(const char *model) {
    muse_engine *none = (muse_engine *)&none;
    FAILS(muse_engine_load("/nowhere", NULL, &none), MUSE_MODEL, "/nowhere");
    CHECK(none == NULL);
    FAILS(muse_engine_load(NULL, NULL, &none), MUSE_OPTION, "path: NULL");
    FAILS(muse_engine_load(model, NULL, NULL), MUSE_OPTION, "engine: NULL");
    muse_engine_options options = {.size = sizeof options, .device = "abacus"};
    FAILS(muse_engine_load(model, &options, &none), MUSE_OPTION, "device: abacus");
    options = (muse_engine_options){.size = sizeof options, .dtype = "f8"};
    FAILS(muse_engine_load(model, &options, &none), MUSE_OPTION, "dtype: f8");
    options = (muse_engine_options){.size = 0};
    FAILS(muse_engine_load(model, &options, &none), MUSE_OPTION, "options: a size of 0");
}

static void *waits(void *cancel) {
    muse_request request = request_of("a dog");
    request.cancel = cancel;
    muse_images *images;
    FAILS(muse_generate(engine, &request, &images), MUSE_CANCELLED, "before the first step");
    return NULL;
}

/* While one request runs, another one waits for it and is cancelled: on_step is called once. */
static int32_t cancels_another(const muse_step *step, void *user) {
    pthread_t *thread = user;
    static muse_cancel *cancel;
    if (step->step > 0) return 0;
    CHECK((cancel = muse_cancel_new()));
    CHECK(pthread_create(thread, NULL, waits, cancel) == 0);
    muse_engine_info info = {.size = sizeof info};
    do DONE(muse_engine_describe(engine, &info));
    while (info.waiting == 0);
    DONE(muse_cancel_now(cancel));
    CHECK(pthread_join(*thread, NULL) == 0);
    muse_cancel_free(cancel);
    return 0;
}

static void cancels(void) {
    muse_request request = request_of("a dog");
    struct seen seen = {.cancel_at = 1};
    request.on_step = on_step;
    request.user = &seen;
    muse_images *images;
    FAILS(muse_generate(engine, &request, &images), MUSE_CANCELLED, "step 0 of the base stage");
    CHECK(images == NULL && seen.steps == 1);

    seen = (struct seen){.cancel = muse_cancel_new()};
    request.cancel = seen.cancel;
    FAILS(muse_generate(engine, &request, &images), MUSE_CANCELLED, "step 1 of the base stage");
    FAILS(muse_generate(engine, &request, &images), MUSE_CANCELLED, "before the first step");
    CHECK(seen.steps == 1);
    muse_cancel_free(seen.cancel);
    FAILS(muse_cancel_now(NULL), MUSE_OPTION, "cancel: NULL");

    pthread_t thread;
    request = request_of("a dog");
    request.on_step = cancels_another;
    request.user = &thread;
    DONE(muse_generate(engine, &request, &images));
    muse_images_free(images);
}

static void *has_no_error(void *unused) {
    (void)unused;
    CHECK(muse_last_status() == MUSE_OK && strcmp(muse_last_error(), "") == 0);
    FAILS(muse_cancel_now(NULL), MUSE_OPTION, "cancel: NULL");
    return NULL;
}

static void opens_files(void) {
    muse_images *images = (muse_images *)&images;
    FAILS(muse_images_open("/nowhere.png", &images), MUSE_IO, "/nowhere.png");
    CHECK(images == NULL && muse_images_count(images) == 0);
    FAILS(muse_images_open(NULL, &images), MUSE_OPTION, "path: NULL");
    FAILS(muse_images_open("/nowhere.png", NULL), MUSE_OPTION, "images: NULL");
}

int main(int argc, char **argv) {
    CHECK(argc == 3 || argc == 4);
    if (argc == 4) size = MUSE_SIZE_PIXELS;
    side = atoi(argv[2]);
    CHECK(0 < side && side <= LARGEST);
    CHECK(muse_abi_version() == MUSE_ABI_VERSION && strchr(muse_version(), '.'));
    CHECK(muse_last_status() == MUSE_OK && strcmp(muse_last_error(), "") == 0);
    muse_engine_free(NULL);
    muse_images_free(NULL);
    muse_cancel_free(NULL);
    refuses_models(argv[1]);

    muse_engine_options options = {.size = sizeof options, .device = "cpu", .threads = 1};
    DONE(muse_engine_load(argv[1], &options, &engine));
    muse_engine_info info = {.size = sizeof info};
    DONE(muse_engine_describe(engine, &info));
    CHECK(strcmp(info.dtype, "bf16") == 0 && strstr(info.device, "1 thread"));
    CHECK(strlen(info.name) > 0 && info.waiting == 0);
    FAILS(muse_engine_describe(NULL, &info), MUSE_OPTION, "engine: NULL");
    FAILS(muse_engine_describe(engine, NULL), MUSE_OPTION, "info: NULL");
    muse_images *images;
    FAILS(muse_preview(engine, NULL, &images), MUSE_OPTION, "step: NULL");

    refuses_requests();
    generates();
    edits();
    cancels();
    opens_files();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, has_no_error, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    muse_engine_free(engine);
    return 0;
}
