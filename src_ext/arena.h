// Work memory of a thread: addresses that stay mapped and are handed out lowest first, so that work takes the pages
// again that the work before it gave back. Fresh pages cost a fault each, which on virtual machines takes 2 us.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

namespace fastct {

// Blocks may be given back by any thread. What is small, or finds no room, comes from malloc.
class Arena {
public:
    static constexpr std::size_t ROOM_BYTES = std::size_t{256} << 20;  // of addresses; pages come as they are used
    static constexpr std::size_t KEPT_BYTES = std::size_t{96} << 20;   // of pages, once nothing is in use
    static constexpr std::size_t SMALL_BYTES = std::size_t{32} << 10;

    Arena() {
        constexpr int KIND = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* room = mmap(nullptr, ROOM_BYTES, PROT_READ | PROT_WRITE, KIND, -1, 0);
        if (room == MAP_FAILED) return;
        room_ = static_cast<char*>(room);
#if defined(MADV_HUGEPAGE)
        madvise(room_, ROOM_BYTES, MADV_HUGEPAGE);
#endif
        gaps_.reserve(1024);
        gaps_.push_back({0, ROOM_BYTES});
    }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() {
        if (room_) munmap(room_, ROOM_BYTES);
    }

    void* take(std::size_t bytes) {
        char* block = bytes >= SMALL_BYTES ? from_room(bytes) : nullptr;
        if (!block) block = static_cast<char*>(std::malloc(bytes + sizeof(Head)));
        if (!block) return nullptr;
        (new (block) Head)->bytes = bytes;
        return block + sizeof(Head);
    }

    void give(void* payload) {
        if (!payload) return;
        char* block = static_cast<char*>(payload) - sizeof(Head);
        if (room_ && block >= room_ && block < room_ + ROOM_BYTES)
            to_room(static_cast<std::size_t>(block - room_), whole(bytes_of(payload)));
        else std::free(block);
    }

    static std::size_t bytes_of(void* payload) { return (static_cast<Head*>(payload) - 1)->bytes; }

private:
    struct Head {  // as long as a line of the caches: in the room, blocks and what they hold begin with one
        std::size_t bytes;
        char rest[64 - sizeof(std::size_t)];
    };
    struct Gap {
        std::size_t from, bytes;
    };

    static std::size_t whole(std::size_t bytes) { return (bytes + 2 * sizeof(Head) - 1) / sizeof(Head) * sizeof(Head); }

    char* from_room(std::size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
            if (gap->bytes < whole(bytes)) continue;
            char* block = room_ + gap->from;
            gap->from += whole(bytes);
            gap->bytes -= whole(bytes);
            reached_ = std::max(reached_, gap->from);
            if (!gap->bytes) gaps_.erase(gap);
            return block;
        }
        return nullptr;
    }

    void to_room(std::size_t from, std::size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        auto after = std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& gap) { return gap.from > from; });
        if (after != gaps_.end() && after->from == from + bytes) {
            after->from = from;
            after->bytes += bytes;
        } else {
            after = gaps_.insert(after, {from, bytes});
        }
        if (after != gaps_.begin() && (after - 1)->from + (after - 1)->bytes == after->from) {
            (after - 1)->bytes += after->bytes;
            gaps_.erase(after);
        }
        if (gaps_.size() == 1 && gaps_[0].bytes == ROOM_BYTES) let_go();
    }

    // Nothing is in use: what a giant took goes back to the system.
    void let_go() {
        if (reached_ > KEPT_BYTES) madvise(room_ + KEPT_BYTES, reached_ - KEPT_BYTES, MADV_DONTNEED);
        reached_ = 0;
    }

    char* room_ = nullptr;
    std::size_t reached_ = 0;
    std::vector<Gap> gaps_;
    std::mutex mutex_;
};

// What NumPy asks of a memory handler (NEP 49).
inline void* arena_malloc(void* arena, std::size_t bytes) { return static_cast<Arena*>(arena)->take(bytes); }

inline void* arena_calloc(void* arena, std::size_t n, std::size_t item_bytes) {
    std::size_t bytes;
    if (__builtin_mul_overflow(n, item_bytes, &bytes)) return nullptr;
    void* payload = static_cast<Arena*>(arena)->take(bytes);
    return payload ? std::memset(payload, 0, bytes) : nullptr;
}

inline void arena_free(void* arena, void* payload, std::size_t) { static_cast<Arena*>(arena)->give(payload); }

inline void* arena_realloc(void* arena, void* payload, std::size_t bytes) {
    void* moved = static_cast<Arena*>(arena)->take(bytes);
    if (!moved) return nullptr;
    if (payload) std::memcpy(moved, payload, std::min(bytes, Arena::bytes_of(payload)));
    static_cast<Arena*>(arena)->give(payload);
    return moved;
}

struct Handler {  // PyDataMem_Handler, version 1
    char name[127];
    unsigned char version;
    void* arena;
    void* (*malloc)(void*, std::size_t);
    void* (*calloc)(void*, std::size_t, std::size_t);
    void* (*realloc)(void*, void*, std::size_t);
    void (*free)(void*, void*, std::size_t);
};

inline Handler* new_handler() {
    return new Handler{"fastct", 1, new Arena, arena_malloc, arena_calloc, arena_realloc, arena_free};
}

inline void delete_handler(Handler* handler) {
    delete static_cast<Arena*>(handler->arena);
    delete handler;
}

}  // namespace fastct
