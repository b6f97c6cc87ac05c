/* Draws with a server of x2i over its Unix socket, and saves the first picture:
 *
 *     x2i serve demo/bundle --socket /tmp/x2i.sock
 *     x2i-draw /tmp/x2i.sock bundle apple.png "ein roter Apfel" language=German steps=20
 *
 * Plain C11 and POSIX, no library. It speaks HTTP/1.0, in which an answer ends with its connection. What cannot be done
 * is told in one line, with exit code 2, and no file is left. */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char part[4096]; /* the file that is being written, to be taken away */

_Noreturn static void fail(const char *format, ...)
{
    va_list values;
    if (part[0])
        unlink(part);
    fputs("x2i-draw: error: ", stderr);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(2);
}

/* A text that grows. */
struct text {
    char *data;
    size_t length, room;
};

static void add(struct text *text, const char *data, size_t length)
{
    if (text->length + length + 1 > text->room) {
        text->room = 2 * (text->length + length + 1);
        if (!(text->data = realloc(text->data, text->room)))
            fail("expected enough memory, got none; close other programs");
    }
    memcpy(text->data + text->length, data, length);
    text->data[text->length += length] = '\0';
}

static void add_words(struct text *text, const char *words)
{
    add(text, words, strlen(words));
}

/* A string as JSON has it. */
static void add_string(struct text *text, const char *words)
{
    char escaped[8];
    add_words(text, "\"");
    for (; *words; words++) {
        if (*words == '"' || *words == '\\' || (unsigned char)*words < 0x20) {
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)(unsigned char)*words);
            add_words(text, escaped);
        } else {
            add(text, words, 1);
        }
    }
    add_words(text, "\"");
}

/* Whether a word stands for itself in JSON: a number, true, false, or a list such as [64,64]. */
static int is_json(const char *word)
{
    char *end;
    if (!strcmp(word, "true") || !strcmp(word, "false") || *word == '[')
        return 1;
    strtod(word, &end);
    return *word && !*end && (isdigit((unsigned char)word[strlen(word) - 1])) && !strpbrk(word, "xX");
}

/* The value behind a key, the first of that name in a JSON text, without quotes and escapes; NULL where it is null or
 * missing. Room for it is never given back: the program ends soon. */
static char *value_of(const char *json, const char *key)
{
    char name[64], *value, *to;
    snprintf(name, sizeof name, "\"%s\":", key);
    const char *found = strstr(json, name);
    if (!found)
        return NULL;
    found += strlen(name) + (found[strlen(name)] == ' ');
    if (!strncmp(found, "null", 4))
        return NULL;
    int quoted = *found == '"';
    if (!(value = to = malloc(strlen(found) + 1)))
        fail("expected enough memory, got none; close other programs");
    for (found += quoted; *found && (quoted ? *found != '"' : !strchr(",}]", *found)); found++) {
        if (*found == '\\' && found[1])
            found++;
        *to++ = *found == '\n' ? ' ' : *found;
    }
    *to = '\0';
    return value;
}

/* Sends a request; the answer is read from what is returned, behind its head. `status` is HTTP's. */
static FILE *ask(const char *path, const char *method, const char *target, const char *body, int *status)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct text request = {0};
    char line[8192], length[64];
    if (strlen(path) >= sizeof address.sun_path)
        fail("%s: expected a path of fewer than %zu bytes, got %zu; move the socket", path, sizeof address.sun_path,
             strlen(path));
    strcpy(address.sun_path, path);
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address))
        fail("%s: expected the socket of a server, got: %s; start x2i serve BUNDLE --socket %s", path, strerror(errno),
             path);
    add_words(&request, method);
    add_words(&request, " ");
    add_words(&request, target);
    snprintf(length, sizeof length, "%zu", strlen(body));
    add_words(&request, " HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    if (getenv("X2I_API_KEY")) {
        add_words(&request, "Authorization: Bearer ");
        add_words(&request, getenv("X2I_API_KEY"));
        add_words(&request, "\r\n");
    }
    add_words(&request, "Content-Length: ");
    add_words(&request, length);
    add_words(&request, "\r\n\r\n");
    add_words(&request, body);
    for (size_t sent = 0; sent < request.length;) {
        ssize_t more = send(connection, request.data + sent, request.length - sent, MSG_NOSIGNAL);
        if (more <= 0)
            fail("%s: expected the server to read on, got: %s; see what it says", path, strerror(errno));
        sent += (size_t)more;
    }
    free(request.data);
    FILE *answer = fdopen(connection, "rb");
    if (!answer || !fgets(line, sizeof line, answer) || sscanf(line, "HTTP/%*s %d", status) != 1)
        fail("%s: expected an answer in HTTP, got none; is it a server of x2i?", path);
    while (fgets(line, sizeof line, answer) && strcmp(line, "\r\n"))
        ;
    return answer;
}

/* All that is left of an answer; ends the program where it is a refusal. */
static struct text rest(FILE *answer, int status)
{
    struct text text = {0};
    char block[65536];
    size_t read;
    add_words(&text, "");
    while ((read = fread(block, 1, sizeof block, answer)) > 0)
        add(&text, block, read);
    fclose(answer);
    if (status >= 300) {
        const char *message = value_of(text.data, "message");
        fail("%s", message ? message : "expected an answer, got a refusal without words; see what the server says");
    }
    return text;
}

/* The job as JSON: words behind the prompt are its options. */
static struct text job_of(int count, char **words)
{
    struct text job = {0};
    add_words(&job, "{\"bundle\": ");
    add_string(&job, words[2]);
    add_words(&job, ", \"prompt\": ");
    words[4][0] ? add_string(&job, words[4]) : add_words(&job, "null");
    add_words(&job, ", \"options\": {");
    for (int number = 5; number < count; number++) {
        char *value = strchr(words[number], '=');
        if (!value)
            fail("%s: expected NAME=VALUE, got no =; write it so", words[number]);
        *value++ = '\0';
        add_words(&job, number > 5 ? ", " : "");
        add_string(&job, words[number]);
        add_words(&job, ": ");
        is_json(value) ? add_words(&job, value) : add_string(&job, value);
    }
    add_words(&job, "}}");
    return job;
}

/* Follows a job to its end, and gives its last state. */
static char *followed(const char *path, const char *id)
{
    char target[256], *line = NULL, *state = NULL;
    size_t room = 0;
    int status;
    snprintf(target, sizeof target, "/x2i/v1/jobs/%.128s/events", id);
    FILE *events = ask(path, "GET", target, "", &status);
    if (status >= 300)
        rest(events, status);
    for (int is_job = 0; getline(&line, &room, events) > 0;) {
        if (!strncmp(line, "event: ", 7)) {
            is_job = !strncmp(line + 7, "job", 3);
        } else if (!strncmp(line, "data: ", 6) && is_job) {
            free(state);
            state = strdup(line + 6);
        } else if (!strncmp(line, "data: ", 6) && value_of(line, "step") && value_of(line, "steps")) {
            fprintf(stderr, "\rstep %s of %s", value_of(line, "step"), value_of(line, "steps"));
        }
    }
    fputc('\n', stderr);
    fclose(events);
    const char *ended = state ? value_of(state, "state") : NULL;
    if (!ended || strcmp(ended, "done")) {
        const char *message = state ? value_of(state, "message") : NULL;
        fail("%s", message ? message : "expected the job to end, got no more of it; see what the server says");
    }
    return state;
}

int main(int count, char **words)
{
    int status;
    if (count < 5)
        fail("expected SOCKET BUNDLE OUT.png PROMPT [NAME=VALUE]..., got %d words; see the head of x2i-draw.c",
             count - 1);
    struct text job = job_of(count, words);
    FILE *answer = ask(words[1], "POST", "/x2i/v1/jobs", job.data, &status);
    struct text submitted = rest(answer, status);
    char *id = value_of(submitted.data, "id");
    if (!id)
        fail("%s: expected a job, got another answer; is it a server of x2i?", words[1]);
    char *url = value_of(followed(words[1], id), "url");
    if (!url)
        fail("%s: expected a picture, got a job that gives none; draw with another bundle", words[2]);
    answer = ask(words[1], "GET", url, "", &status);
    struct text picture = rest(answer, status);
    if (snprintf(part, sizeof part, "%s.part", words[3]) >= (int)sizeof part)
        fail("%.80s...: expected a shorter name, got %zu bytes; choose one", words[3], strlen(words[3]));
    FILE *file = fopen(part, "wb");
    if (!file) {
        part[0] = '\0';
        fail("%s: expected a file that can be written, got: %s; choose another", words[3], strerror(errno));
    }
    int lost = fwrite(picture.data, 1, picture.length, file) != picture.length;
    lost |= fclose(file) != 0;
    if (lost || rename(part, words[3]))
        fail("%s: expected a file that can be written, got: %s; choose another", words[3], strerror(errno));
    puts(words[3]);
    return 0;
}
